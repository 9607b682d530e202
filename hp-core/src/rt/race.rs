//! Two futures in one task.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Which of two futures ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First<A, B> {
    /// The one named first; it also wins a tie.
    One(A),
    /// The one named second.
    Other(B),
}

/// Runs both until one ends; the other is dropped, which loses nothing where its operations are cancel-safe. A large one is pinned
/// by the caller: what is given by value is kept twice, as an argument and where it is polled.
pub async fn race<A: Future, B: Future>(one: A, other: B) -> First<A::Output, B::Output> {
    let mut one = pin!(one);
    let mut other = pin!(other);
    poll_fn(|cx| {
        if let Poll::Ready(output) = one.as_mut().poll(cx) {
            return Poll::Ready(First::One(output));
        }
        other.as_mut().poll(cx).map(First::Other)
    })
    .await
}

/// Runs both until both have ended.
pub async fn join<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let mut one = pin!(one);
    let mut other = pin!(other);
    let (mut one_output, mut other_output) = (None, None);
    poll_fn(|cx| {
        if one_output.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(cx)
        {
            one_output = Some(output);
        }
        if other_output.is_none()
            && let Poll::Ready(output) = other.as_mut().poll(cx)
        {
            other_output = Some(output);
        }
        match (one_output.take(), other_output.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (one, other) => {
                (one_output, other_output) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}
