"use strict";
// The key of the field above goes into the header of every request; subscriptions send it in their connection_init,
// because browsers cannot set headers on a WebSocket. It is kept nowhere: a page that is loaded again asks again.
const address = new URL("/graphql", window.location.href);
const socket = new URL(address);
socket.protocol = address.protocol === "https:" ? "wss:" : "ws:";

const example = `# Queries, mutations and subscriptions of this service. The schema is in the book on the left.

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
function fetcherWith(key) {
  const own = key === "" ? {} : { Authorization: `Bearer ${key}` };
  return (request, options) =>
    fetcher(request, {
      ...options,
      headers: { ...own, ...options?.headers },
      documentAST: GraphiQL.GraphQL.parse(request.query),
    });
}

const root = ReactDOM.createRoot(document.getElementById("graphiql"));

// Another key makes another page of it, which fetches the schema again.
function show(key) {
  root.render(
    React.createElement(GraphiQL, {
      key,
      fetcher: fetcherWith(key),
      defaultQuery: example,
      defaultEditorToolsVisibility: true,
    }),
  );
}

document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.getElementById("key").value.trim());
});
show("");
