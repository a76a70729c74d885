//! A file on its way to a sibling: read in pieces beside the event loop, with a place among the
//! transfers that go on at once and an end in time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Bytes read at once: all that a transfer holds in memory.
const PIECE: usize = 256 * 1024;
/// Longest time of a transfer: a caller that takes its bytes slowly does not keep its place for ever.
const LONGEST: Duration = Duration::from_mins(6);

/// The body of the answer.
#[derive(Debug)]
pub struct Transfer {
    file: File,
    left: u64,
    buffer: Vec<u8>,
    end: Instant,
    sent: Counter,
    _place: OwnedSemaphorePermit,
}

impl Transfer {
    /// All of a file of that size.
    pub fn new(file: File, bytes: u64, sent: Counter, place: OwnedSemaphorePermit) -> Self {
        let buffer = vec![0; PIECE];
        Self { file, left: bytes, buffer, end: Instant::now() + LONGEST, sent, _place: place }
    }
}

impl Body for Transfer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if Instant::now() >= this.end {
            return Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the transfer took too long",
            ))));
        }
        let most = this.buffer.len().min(usize::try_from(this.left).unwrap_or(usize::MAX));
        let mut buffer = ReadBuf::new(&mut this.buffer[..most]);
        match Pin::new(&mut this.file).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(())) => {
                let piece = Bytes::copy_from_slice(buffer.filled());
                this.left -= piece.len() as u64;
                this.sent.inc_by(piece.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
