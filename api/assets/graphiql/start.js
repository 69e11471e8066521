"use strict";
// A token goes into the headers editor, as {"Authorization": "Bearer …"}; subscriptions send it in their
// connection_init, because browsers cannot set headers on a WebSocket.
const address = new URL("/graphql", window.location.href);
const socket = new URL(address);
socket.protocol = address.protocol === "https:" ? "wss:" : "ws:";

const example = `# Queries, mutations and subscriptions of this service. The schema is in the book on the left.
#
# With a token: open "Headers" below, write {"Authorization": "Bearer …"}, and fetch the schema
# again (the arrows on the left).

{
  wake {
    nextAt
  }
  schedules(first: 10) {
    nodes {
      id
      name
      task {
        status
      }
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
`;

const fetcher = GraphiQL.createFetcher({ url: address.href, subscriptionUrl: socket.href });

// The fetcher tells a subscription by GraphiQL's own reading of the document, which is missing without a schema
// and behind what was just typed: read what is really sent.
function readAndFetch(request, options) {
  return fetcher(request, { ...options, documentAST: GraphiQL.GraphQL.parse(request.query) });
}

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, {
    fetcher: readAndFetch,
    defaultQuery: example,
    defaultEditorToolsVisibility: true,
  }),
);
