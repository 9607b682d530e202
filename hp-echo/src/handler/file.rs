//! Files on their way to a client: by name, in parts of which one is with the kernel.

use hp_core::rt::net::FilePart;

use super::{Leave, Session, body_of};
use crate::answer::{BodyOf, Persistence};
use crate::files::FileAnswer;
use crate::request::Request;

impl Session {
    /// Sends an answer from below the root.
    pub(super) async fn send_file(
        &mut self,
        request: &Request,
        answer: FileAnswer,
        persistence: Persistence,
    ) -> Result<(), Leave> {
        let body = body_of(request);
        let mut head = Vec::new();
        answer.encode(&mut head, persistence, body);
        self.site.row.add_answers(answer.status(), 1);
        let content = answer.content().filter(|_content| body == BodyOf::Get);
        let Some(mut rest) = content else {
            return Ok(self.put(&head)?);
        };
        loop {
            let part = FilePart {
                left: rest.left.min(PART_BYTES),
                ..rest.clone()
            };
            rest.offset += part.left;
            rest.left -= part.left;
            self.site.row.bytes_out.add(head.len() as u64 + part.left);
            // What fails here was begun: the client must not take it for whole.
            self.conn
                .write_file(&head, part)
                .map_err(|_cut_short| Leave::Reset)?;
            head.clear();
            if rest.left == 0 {
                return Ok(());
            }
            self.flush().await.map_err(|_cut_short| Leave::Reset)?;
            // A fast reader must not keep the worker from the others.
            self.site.rt.yield_now().await;
        }
    }
}

/// What one connection sends of a file before others have their turn.
const PART_BYTES: u64 = 512 * 1024;
