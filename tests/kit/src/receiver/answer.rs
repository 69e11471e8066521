//! What the receiver answers, as a test scripts it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::{Response, StatusCode};

/// One answer to a delivery.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) delay: Duration,
    pub(super) is_held: bool,
    pub(super) is_closed: bool,
    pub(super) is_stalled: bool,
}

impl Answer {
    /// This status and an empty body.
    pub fn status(code: u16) -> Self {
        Self {
            status: StatusCode::from_u16(code).expect("a status code"),
            headers: Vec::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
            is_held: false,
            is_closed: false,
            is_stalled: false,
        }
    }

    /// 200 and an empty body.
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// 307 to `location`.
    pub fn redirect(location: &str) -> Self {
        Self::status(307).header("location", location)
    }

    /// Closes the connection without an answer.
    pub fn close() -> Self {
        Self { is_closed: true, ..Self::ok() }
    }

    /// 200, once [`Receiver::release`](super::Receiver::release) lets it go; never without.
    pub fn hang() -> Self {
        Self::ok().held()
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Retry-After`, in seconds or as an HTTP date.
    #[must_use]
    pub fn retry_after(self, value: impl ToString) -> Self {
        self.header("retry-after", &value.to_string())
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets a body of this many bytes.
    #[must_use]
    pub fn huge_body(self, bytes: usize) -> Self {
        self.body(vec![b'x'; bytes])
    }

    /// Answers this much later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Answers once [`Receiver::release`](super::Receiver::release) lets it go.
    #[must_use]
    pub fn held(self) -> Self {
        Self { is_held: true, ..self }
    }

    /// Sends status, headers and what there is of a body, but never the end of it.
    #[must_use]
    pub fn stalled(self) -> Self {
        Self { is_stalled: true, ..self }
    }

    pub(super) fn into_response(self) -> Response<AnswerBody> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        let body = AnswerBody { data: Some(self.body).filter(|data| !data.is_empty()), is_stalled: self.is_stalled };
        response.body(body).expect("valid headers")
    }
}

/// A body in one piece, which may never end.
pub(super) struct AnswerBody {
    data: Option<Bytes>,
    is_stalled: bool,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let body = self.get_mut();
        match body.data.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None if body.is_stalled => Poll::Pending, // without a waker: only the client's hanging up ends it
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.is_stalled
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_stalled {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
