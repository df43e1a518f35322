//! An answer on its way. It is handed on in pieces, and until the last of them is in the socket it keeps its place among the
//! requests of its principal and counts as unread: whoever asks for much and does not read it fills its own places, and not
//! this member's memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::answer::HasPlace;
use super::unread::{Reading, Unread};
use crate::admission::{KeptBytes, RequestPlace, TooMuch};

/// Bytes that are handed on at once: what the connection takes beyond its window.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// What an answer holds while it is on its way.
#[derive(Debug)]
pub(super) struct Holding {
    _place: RequestPlace,
    kept: KeptBytes,
    is_of_write: bool,
}

/// The answer, with what it holds. Of a stream only pieces count that wait: it makes what it sends when it is taken.
///
/// # Errors
/// [`TooMuch::Unread`] if it is large and too much waits to be read already.
pub(super) fn held(
    response: Response,
    holding: Option<Holding>,
    unread: &Arc<Unread>,
) -> Result<Response, TooMuch> {
    let bytes = response.body().size_hint().exact();
    let has_place = response.extensions().get::<HasPlace>().is_some();
    let mut holding = holding.filter(|_| !has_place);
    if let (Some(bytes), Some(holding)) = (bytes, &mut holding) {
        holding.take(bytes, unread)?;
    }
    Ok(on_its_way(response, holding, unread))
}

/// The same for what has to be said whatever waits already, such as a refusal.
pub(super) fn held_anyway(
    response: Response,
    mut holding: Option<Holding>,
    unread: &Arc<Unread>,
) -> Response {
    if let (Some(bytes), Some(holding)) = (response.body().size_hint().exact(), &mut holding) {
        holding.kept.grow_anyway(bytes);
    }
    on_its_way(response, holding, unread)
}

fn on_its_way(response: Response, holding: Option<Holding>, unread: &Arc<Unread>) -> Response {
    let reading = Unread::begin(unread, response.body().size_hint().exact());
    let way = Arc::new(Way { reading, _holding: holding });
    response.map(|body| Body::new(Held { body, rest: Bytes::new(), way }))
}

impl Holding {
    /// Its place among those of its principal, what that has this member keep, and whether it says that something was done:
    /// then it has to be said.
    pub(super) fn of(place: RequestPlace, kept: KeptBytes, is_of_write: bool) -> Self {
        Self { _place: place, kept, is_of_write }
    }

    fn take(&mut self, bytes: u64, unread: &Unread) -> Result<(), TooMuch> {
        if self.is_of_write {
            self.kept.grow_anyway(bytes);
            return Ok(());
        }
        match !unread.is_full(bytes) && self.kept.grow(bytes) {
            true => Ok(()),
            false => Err(TooMuch::Unread),
        }
    }
}

/// What lasts until the last piece is gone.
#[derive(Debug)]
struct Way {
    reading: Reading,
    _holding: Option<Holding>,
}

struct Held {
    body: Body,
    rest: Bytes,
    way: Arc<Way>,
}

/// Bytes that say when they are needed no more: when they are in the socket, or nobody wants them.
struct Piece {
    bytes: Bytes,
    way: Arc<Way>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.way.reading.gets_on();
    }
}

impl Held {
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.len().min(PIECE_BYTES);
        let bytes = self.rest.split_to(bytes);
        self.way.reading.hands_on();
        Frame::data(Bytes::from_owner(Piece { bytes, way: Arc::clone(&self.way) }))
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
    use futures_util::StreamExt;

    use super::*;
    use crate::admission::{Admission, Limits};

    fn holding(admission: &Admission, is_of_write: bool) -> Holding {
        let principal = "a".parse().unwrap();
        let place = admission.request(&principal).unwrap();
        Holding::of(place, admission.answer(&principal), is_of_write)
    }

    #[tokio::test]
    async fn an_answer_keeps_its_place_until_its_last_piece_is_gone_and_loses_nothing() {
        let limits = Limits { requests_at_once_per_principal: 1, ..Limits::default() };
        let (admission, principal) = (Admission::new(limits), "a".parse().unwrap());
        let unread = Arc::default();
        let bytes: Vec<u8> =
            (0..3 * PIECE_BYTES + 1).map(|number| number.to_le_bytes()[0]).collect();
        let response = Response::new(Body::from(bytes.clone()));
        let response = held(response, Some(holding(&admission, false)), &unread).unwrap();
        assert_eq!(response.body().size_hint().exact(), Some(bytes.len() as u64));
        let mut pieces = response.into_body().into_data_stream();
        let (mut sent, mut last) = (Vec::new(), Bytes::new());
        while let Some(piece) = pieces.next().await {
            last = piece.unwrap();
            sent.extend_from_slice(&last);
        }
        drop(pieces);
        assert!(sent == bytes);
        assert!(admission.request(&principal).is_err(), "the last piece waits in a buffer");
        drop(last);
        let stream = futures_util::stream::pending::<Result<Bytes, axum::Error>>();
        let mut stream = Response::new(Body::from_stream(stream));
        stream.extensions_mut().insert(HasPlace);
        let _stream = held(stream, Some(holding(&admission, false)), &unread).unwrap();
        let stream = futures_util::stream::pending::<Result<Bytes, axum::Error>>();
        let stream = Response::new(Body::from_stream(stream));
        let _stream = held(stream, Some(holding(&admission, false)), &unread).unwrap();
        assert!(admission.request(&principal).is_err(), "a stream without its own takes one");
    }

    #[tokio::test]
    async fn what_was_done_is_said_however_much_waits() {
        let admission = Admission::new(Limits::default());
        let unread = Arc::default();
        let large = || Response::new(Body::from(vec![0; 8 << 20]));
        let _first = held(large(), Some(holding(&admission, false)), &unread).unwrap();
        let refused = held(large(), Some(holding(&admission, false)), &unread);
        assert_eq!(refused.err(), Some(TooMuch::Unread));
        assert!(held(large(), Some(holding(&admission, true)), &unread).is_ok());
    }
}
