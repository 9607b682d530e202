//! Round trips over the loopback, both ends in one runtime: what a request cannot be quicker than.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hp_core::rt::net::{Conn, Rx, listen};
use hp_core::rt::{Instant, Rt};

use super::model::Times;

/// One byte there and back, one after the other.
///
/// # Errors
/// Where the loopback carries no connection, or stops to.
pub(super) async fn round_trips(rt: &Rt) -> io::Result<Times> {
    let listener = rt.listener(listen(SocketAddr::from(([127, 0, 0, 1], 0)), 1)?)?;
    let addr = listener.local_addr()?;
    let deadline = rt.precise_now() + PATIENCE;
    rt.spawn(async move {
        match echo(&listener, deadline).await {
            Ok(()) => (),
            Err(_broken) => (), // The other end finds out.
        }
    });
    let conn = rt.connect(addr, deadline).await?;
    conn.set_deadline(Some(deadline));
    let mut took = Vec::with_capacity(TRIPS);
    for trip in 0..WARM_UP + TRIPS {
        let begin = rt.precise_now();
        conn.write(b"x")?;
        conn.send_now()?;
        receive(&conn).await?;
        if trip >= WARM_UP {
            let nanos = (rt.precise_now() - begin).as_nanos();
            took.push(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
    }
    Ok(Times::of(&mut took))
}

/// Sends back what one connection sends, until it ends.
async fn echo(listener: &hp_core::rt::net::Listener, deadline: Instant) -> io::Result<()> {
    let conn = listener.accept().await?;
    conn.set_deadline(Some(deadline));
    loop {
        match conn.recv().await? {
            Rx::Data(bytes) => {
                conn.write(&bytes)?;
                conn.send_now()?;
            }
            Rx::Eof => return Ok(()),
        }
    }
}

async fn receive(conn: &Conn) -> io::Result<()> {
    match conn.recv().await? {
        Rx::Data(_byte) => Ok(()),
        Rx::Eof => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}

const WARM_UP: usize = 100;
const TRIPS: usize = 2_000;
/// For all of it.
const PATIENCE: Duration = Duration::from_secs(30);
