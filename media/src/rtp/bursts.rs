//! Whether losses come alone or in bursts (RFC 3611 §4.7.2), and how much worse than chance (G.107 §3.5: BurstR).

/// Follows the packets of one stream in their order.
#[derive(Debug, Default, Clone, Copy)]
pub struct Bursts {
    /// Packets received since the last loss.
    received_run: u32,
    /// The last packet was lost.
    is_lost: bool,
    /// From the first loss to the last of what may be a burst.
    open: Stretch,
    /// The bursts that are over.
    closed: Stretch,
    closed_count: u32,
    all: Stretch,
    /// Losses in a row count as one.
    loss_runs: u32,
}

#[derive(Debug, Default, Clone, Copy)]
struct Stretch {
    packets: u32,
    losses: u32,
}

/// What RFC 3611 says of a stream's losses: bursts, and the gaps between them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BurstFigures {
    /// Of the packets in bursts, the part that was lost, 0 to 1.
    pub burst_density: f64,
    /// Of the packets outside of bursts, the part that was lost, 0 to 1.
    pub gap_density: f64,
    /// The mean burst, in packets.
    pub burst_packets: f64,
    /// The mean gap, in packets.
    pub gap_packets: f64,
    /// Packets lost or discarded in all, of those expected, 0 to 1.
    pub loss: f64,
    /// The mean run of losses over that of as many random ones; 1 where nothing is lost.
    pub burst_ratio: f64,
}

impl Bursts {
    /// The next packet is there.
    pub fn handle_received(&mut self) {
        self.received_run = self.received_run.saturating_add(1);
        self.is_lost = false;
        self.all.packets = self.all.packets.saturating_add(1);
    }

    /// The next packet was lost, or came too late.
    pub fn handle_lost(&mut self) {
        if !std::mem::replace(&mut self.is_lost, true) {
            self.loss_runs = self.loss_runs.saturating_add(1);
        }
        let between = std::mem::take(&mut self.received_run);
        if self.open.losses > 0 && between >= GAP_MIN {
            self.close();
        }
        let between = if self.open.losses > 0 { between } else { 0 };
        self.open.packets = self.open.packets.saturating_add(between).saturating_add(1);
        self.open.losses = self.open.losses.saturating_add(1);
        self.all.packets = self.all.packets.saturating_add(1);
        self.all.losses = self.all.losses.saturating_add(1);
    }

    /// The figures so far.
    pub fn figures(&self) -> BurstFigures {
        let mut whole = *self;
        whole.close();
        let Bursts { closed, closed_count: bursts, all, loss_runs, .. } = whole;
        let (gap_packets, gap_losses) = (all.packets - closed.packets, all.losses - closed.losses);
        let loss = part(all.losses, all.packets);
        let mean_run = if loss_runs == 0 { 1.0 } else { part(all.losses, loss_runs) };
        BurstFigures {
            burst_density: part(closed.losses, closed.packets),
            gap_density: part(gap_losses, gap_packets),
            burst_packets: part(closed.packets, bursts),
            gap_packets: part(gap_packets, bursts.saturating_add(1)),
            loss,
            // Losses at random come in runs of 1 / (1 − loss) (G.107 §3.5).
            burst_ratio: if loss_runs == 0 { 1.0 } else { (mean_run * (1.0 - loss)).max(1.0) },
        }
    }

    /// A single loss is no burst, and belongs to the gap around it.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.losses > 1 {
            self.closed.packets = self.closed.packets.saturating_add(open.packets);
            self.closed.losses = self.closed.losses.saturating_add(open.losses);
            self.closed_count = self.closed_count.saturating_add(1);
        }
    }
}

fn part(some: u32, of: u32) -> f64 {
    if of == 0 { 0.0 } else { f64::from(some) / f64::from(of) }
}

/// 16 packets received in a row end a burst: RFC 3611 recommends it.
pub const GAP_MIN: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_apart_are_a_gap_and_losses_together_a_burst() {
        let figures = of(&[(20, 1), (20, 1), (20, 1), (20, 0)]);
        assert_eq!((figures.burst_packets, figures.burst_density), (0.0, 0.0));
        assert_eq!((figures.gap_packets, figures.gap_density), (83.0, 3.0 / 83.0));
        // Three lost with five received between them: eight packets of which three are lost.
        let figures = of(&[(40, 1), (5, 2), (52, 0)]);
        assert_eq!((figures.burst_packets, figures.burst_density), (8.0, 3.0 / 8.0));
        assert_eq!((figures.gap_packets, figures.gap_density), (46.0, 0.0));
        assert_eq!(figures.loss, 0.03);
    }

    #[test]
    fn losses_in_a_row_are_worse_than_chance_and_random_ones_are_not() {
        assert_eq!(of(&[(100, 0)]).burst_ratio, 1.0);
        let single = of(&[(9, 1); 50]);
        assert!((single.burst_ratio - 1.0).abs() < 0.11, "{single:?}");
        let in_fours = of(&[(36, 4); 20]);
        assert_eq!((in_fours.loss, in_fours.burst_ratio), (0.1, 3.6));
    }

    fn of(runs: &[(u32, u32)]) -> BurstFigures {
        let mut bursts = Bursts::default();
        for (received, lost) in runs {
            (0..*received).for_each(|_| bursts.handle_received());
            (0..*lost).for_each(|_| bursts.handle_lost());
        }
        bursts.figures()
    }
}
