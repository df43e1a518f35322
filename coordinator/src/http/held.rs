//! An answer on its way: it keeps its place among the requests of its principal until it has been taken.
//!
//! Whoever asks for much and does not read it would otherwise have this member keep it all. Streams are not held: they
//! make what they send when it is taken, and have limits of their own.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::admission::RequestPlace;

/// Bytes that are handed on at once: what the connection takes beyond its window.
const PIECE_BYTES: usize = 64 * 1024;

/// The answer, with its place if it is not a stream.
pub(super) fn held(response: Response, place: Option<RequestPlace>) -> Response {
    let is_whole = response.body().size_hint().exact().is_some();
    match place {
        Some(place) if is_whole => {
            response.map(|body| Body::new(Held { body, rest: Bytes::new(), _place: place }))
        }
        _ => response,
    }
}

struct Held {
    body: Body,
    rest: Bytes,
    _place: RequestPlace,
}

impl Held {
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.len().min(PIECE_BYTES);
        Frame::data(self.rest.split_to(bytes))
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    self.piece()
                }
                Err(other) => other,
            }))),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match self.body.size_hint().exact() {
            Some(bytes) => SizeHint::with_exact(bytes + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Admission, Limits};

    #[tokio::test]
    async fn an_answer_keeps_its_place_until_it_was_taken_and_loses_nothing() {
        let limits = Limits { requests_at_once_per_principal: 1, ..Limits::default() };
        let (admission, principal) = (Admission::new(limits), "a".parse().unwrap());
        let bytes: Vec<u8> =
            (0..3 * PIECE_BYTES + 1).map(|number| number.to_le_bytes()[0]).collect();
        let place = admission.request(&principal).unwrap();
        let response = held(Response::new(Body::from(bytes.clone())), Some(place));
        assert_eq!(response.body().size_hint().exact(), Some(bytes.len() as u64));
        assert!(admission.request(&principal).is_err());
        let sent = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(sent == bytes);
        let place = admission.request(&principal).unwrap();
        let stream = futures_util::stream::pending::<Result<Bytes, axum::Error>>();
        let _stream = held(Response::new(Body::from_stream(stream)), Some(place));
        assert!(admission.request(&principal).is_ok(), "a stream takes no place");
    }
}
