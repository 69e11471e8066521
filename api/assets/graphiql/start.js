"use strict";
// A token goes into the headers editor, as {"Authorization": "Bearer …"}; subscriptions send it in their
// connection_init, because browsers cannot set headers on a WebSocket.
const address = new URL("/graphql", window.location.href);
const socket = new URL(address);
socket.protocol = address.protocol === "https:" ? "wss:" : "ws:";

const example = `# Queries, mutations and subscriptions of this service. The schema is in the book on the left.
#
# With a token: open "Headers" below and write {"Authorization": "Bearer …"}

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

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, {
    fetcher: GraphiQL.createFetcher({ url: address.href, subscriptionUrl: socket.href }),
    defaultQuery: example,
    defaultEditorToolsVisibility: true,
  }),
);
