//! How late a wait for a point in time ends.

use std::time::Duration;

use hp_core::rt::Rt;

use super::model::Times;

/// Waits of 100 us, one after the other, and how much later than asked each ended. `spin` before its time a wait stops
/// sleeping and looks at the clock instead, which costs the whole CPU for that long.
pub(super) async fn lateness(rt: &Rt, spin: Duration) -> Times {
    let mut late = Vec::with_capacity(WAITS);
    for _ in 0..WAITS {
        let asleep = WAIT.saturating_sub(spin);
        let begin = rt.precise_now();
        rt.alarm_at(begin + asleep).await;
        let due = begin + WAIT;
        let now = loop {
            let now = rt.precise_now();
            if spin.is_zero() || now >= due {
                break now;
            }
            std::hint::spin_loop();
        };
        late.push(u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX));
    }
    Times::of(&mut late)
}

const WAITS: usize = 500;
const WAIT: Duration = Duration::from_micros(100);
