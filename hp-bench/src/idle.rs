//! Extra connections that make one request each and then stay idle, with neither task nor buffer.

use std::cell::Cell;
use std::rc::Rc;

use hp_core::rt::Instant;
use hp_core::rt::net::Conn;

use crate::fleet::Fleet;
use crate::latch::Latch;
use crate::response::{Asked, Incoming};

/// Opens `count` of them, a bounded number at the same time, and watches them from then on.
pub(crate) async fn open(fleet: &Rc<Fleet>, count: u32) {
    let next = Rc::new(Cell::new(0));
    let latch = Rc::new(Latch::default());
    for _ in 0..count.min(OPENING_MAX) {
        let (fleet, next, ticket) = (Rc::clone(fleet), Rc::clone(&next), latch.ticket());
        fleet.rt.clone().spawn(async move {
            let _ticket = ticket;
            while next.get() < count {
                next.set(next.get() + 1);
                match one(&fleet).await {
                    Some(conn) => {
                        let _found_by_the_watch = conn.park(0, Instant::NEVER);
                    }
                    None => fleet.record.borrow_mut().idle_lost += 1,
                }
            }
        });
    }
    latch.opened().await;
    if count > 0 {
        let fleet = Rc::clone(fleet);
        fleet.rt.clone().spawn(async move {
            loop {
                let (conn, _tag, _why) = fleet.rt.next_unparked().await;
                fleet.record.borrow_mut().idle_lost += 1; // The server closed it, or spoke unasked.
                drop(conn);
            }
        });
    }
}

/// A connection that has made a request; `None` where it has not.
async fn one(fleet: &Fleet) -> Option<Conn> {
    let conn = fleet.open_plainly().await?;
    conn.set_deadline(Some(fleet.rt.now() + fleet.plan.timeout));
    let request = fleet.request(0);
    conn.write(&request.bytes).ok()?;
    conn.flush().await.ok()?;
    let asked = Asked {
        is_head: request.is_head,
        keep_alive: request.keep_alive,
        hashes_body: false,
    };
    let mut input = Incoming::default();
    let answered = fleet.rules.read(&conn, &mut input, asked).await;
    conn.set_deadline(None);
    answered.is_ok().then_some(conn)
}

const OPENING_MAX: u32 = 128;
