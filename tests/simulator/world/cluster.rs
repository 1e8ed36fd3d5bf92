//! What several nodes have that one has not: links between them, and faults of their own.

use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::peers::{Habits, Links, Partition};
use crate::rng::Rng;
use crate::world::World;

/// Drawn behind everything else, and only for several nodes.
pub(super) struct Cluster {
    pub(super) links: Links<Vec<u8>>,
    /// How often faults come: a partition, a pause, a clock that drifts.
    pub(super) weights: [u32; 3],
}

impl Cluster {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let links = Links::new(Habits::draw(rng));
        let weights = [(); 3].map(|()| if rng.permille(300) { 0 } else { rng.range(0, 200) });
        let weights = weights.map(|weight| u32::try_from(weight).expect("it is small"));
        Self { links, weights }
    }

    pub(super) fn advance(&mut self, now: Timestamp, rng: &mut Rng) {
        self.links.advance(now, rng);
    }
}

impl World {
    /// What goes wrong in a cluster, by the place of its weight.
    pub(super) fn strike_cluster(&mut self, kind: usize) {
        match kind {
            0 => self.part(),
            1 => {
                let at = self.pick_seat();
                let most = *self.rng.pick(&[100, 2_000, 30_000]);
                let pause = Duration::from_millis(self.rng.range(10, most));
                self.say_of(at, format_args!("it is paused for {pause:?}"));
                self.seats[at].pause(self.now, pause);
            }
            _ => {
                let at = self.pick_seat();
                let drift = i32::from(self.rng.small(0, 20_000)) - 10_000;
                self.say_of(at, format_args!("its clocks gain {drift} millionths"));
                self.seats[at].set_drift(self.now, drift);
            }
        }
    }

    fn part(&mut self) {
        let nodes: Vec<u64> = self.seats.iter().map(|seat| seat.name.id).collect();
        let Self { cluster, rng, now, trace, .. } = self;
        let Some(cluster) = cluster else { return };
        let partition = Partition::draw(&nodes, *now, rng);
        trace.say(format_args!("a path fails: {partition:?}"));
        cluster.links.strike(partition, *now, rng);
    }

    /// Paths are whole, nobody is paused, clocks go as they should.
    pub(super) fn mend_cluster(&mut self) {
        for seat in &mut self.seats {
            seat.paused_until = self.now;
            seat.set_drift(self.now, 0);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.links.mend(self.now, &mut self.rng);
        }
    }
}
