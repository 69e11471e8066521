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

// GraphiQL knows a subscription by its document, which it reads only when it has the schema.
function withDocument(request, options) {
  const documentAST = options?.documentAST ?? GraphiQL.GraphQL.parse(request.query);
  return fetcher(request, { ...options, documentAST });
}

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, {
    fetcher: withDocument,
    defaultQuery: example,
    defaultEditorToolsVisibility: true,
  }),
);
