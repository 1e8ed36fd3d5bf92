//! What a seed decides about the links.

use std::time::Duration;

use crate::rng::Rng;

/// How the links of a seed behave.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    /// Shortest and longest time of a frame on its way.
    pub(crate) latency: (Duration, Duration),
    /// Shortest and longest time until an end gives up a path that is cut or a peer that is silent.
    pub(crate) patience: (Duration, Duration),
    /// Bytes that a lane takes before it is full: log, pulse, bulk.
    pub(crate) lane_bytes: [usize; 3],
    /// Of a thousand frames: lost, doubled, put before others. TCP never does that.
    pub(crate) hostile: [u32; 3],
}

impl Habits {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let micros = Duration::from_micros;
        let shortest = rng.range(50, 500);
        let longest = shortest * *rng.pick(&[1, 3, 30, 300]);
        let tight = rng.permille(300);
        let mut bytes = |large: usize| if tight { rng.size(500, 20_000) } else { large };
        let lane_bytes = [bytes(8 << 20), bytes(256 << 10), bytes(1 << 20)];
        let is_hostile = rng.permille(200);
        let hostile = [(); 3].map(|()| if is_hostile { rng.range(0, 50) } else { 0 });
        Self {
            latency: (micros(shortest), micros(longest)),
            patience: (Duration::from_millis(500), Duration::from_secs(rng.range(2, 30))),
            lane_bytes,
            hostile: hostile.map(|permille| u32::try_from(permille).expect("it is small")),
        }
    }

    pub(super) fn latency(&self, rng: &mut Rng) -> Duration {
        between(self.latency, rng)
    }

    pub(super) fn patience(&self, rng: &mut Rng) -> Duration {
        between(self.patience, rng)
    }
}

fn between((shortest, longest): (Duration, Duration), rng: &mut Rng) -> Duration {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).expect("it is short");
    Duration::from_micros(rng.range(micros(shortest), micros(longest)))
}
