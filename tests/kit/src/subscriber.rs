//! A GraphQL client that subscribes: graphql-transport-ws over a WebSocket of its own.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longer than anything is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection to `ws://…/graphql`.
pub struct Subscriber {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What came over the connection.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// A message of the protocol.
    Message(Value),
    /// The server closed it, with this code.
    Closed(u16),
}

impl Subscriber {
    /// Opens a connection with these headers beside the usual ones.
    ///
    /// # Errors
    /// What the server answered instead.
    pub async fn connect(address: &str, headers: &[(&'static str, &str)]) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{address}/graphql").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().expect("a header"));
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { socket })
    }

    /// Opens a connection and says hello with this payload.
    pub async fn start(address: &str, payload: Value) -> Self {
        let mut this = Self::connect(address, &[]).await.expect("a WebSocket");
        this.send(&json!({"type": "connection_init", "payload": payload})).await;
        assert_eq!(this.hear().await, Heard::Message(json!({"type": "connection_ack"})));
        this
    }

    /// Sends a message of the protocol.
    pub async fn send(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("an open WebSocket");
    }

    /// Begins an operation.
    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({"query": query, "variables": variables});
        self.send(&json!({"id": id, "type": "subscribe", "payload": payload})).await;
    }

    /// What comes next, within a generous time.
    pub async fn hear(&mut self) -> Heard {
        let heard = tokio::time::timeout(LIMIT, async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Heard::Message(serde_json::from_str(&text).expect("JSON")),
                    Some(Ok(Message::Close(Some(CloseFrame { code, .. })))) => return Heard::Closed(code.into()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        heard.await.expect("a message in time")
    }

    /// The data of the next message, which is one of an operation.
    pub async fn next(&mut self) -> Value {
        match self.hear().await {
            Heard::Message(message) if message["type"] == "next" => {
                assert_eq!(message["payload"]["errors"], Value::Null, "{message}");
                message["payload"]["data"].clone()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The data of the next message of this operation; those of others are passed over.
    pub async fn next_of(&mut self, id: &str) -> Value {
        loop {
            match self.hear().await {
                Heard::Message(message) if message["id"] == id && message["type"] == "next" => {
                    assert_eq!(message["payload"]["errors"], Value::Null, "{message}");
                    return message["payload"]["data"].clone();
                }
                Heard::Message(_) => {}
                Heard::Closed(code) => panic!("closed with {code}"),
            }
        }
    }
}
