//! In which order the servers of a peer are tried (RFC 2782, RFC 3263 §4.3).

use super::locate::Server;

/// Draws servers by their weights.
#[derive(Debug, Clone, Default)]
pub struct Draw(u64);

impl Draw {
    /// Draws from a seed; one seed makes one sequence.
    pub fn new(seed: u64) -> Self {
        Draw(seed)
    }

    /// Puts servers in the order in which they are tried: by rank and priority, among equals by weight and chance.
    pub fn order<'a>(&mut self, servers: &'a [Server]) -> Vec<&'a Server> {
        let mut left: Vec<&Server> = servers.iter().collect();
        // RFC 2782 wants those of weight 0 in front, where chance finds them the most seldom.
        left.sort_by_key(|server| (server.rank, server.priority, server.weight != 0));
        let mut order = Vec::with_capacity(left.len());
        while let Some(first) = left.first() {
            let is_equal = |server: &&&Server| (server.rank, server.priority) == (first.rank, first.priority);
            let equals = left.iter().take_while(is_equal);
            let sum: u64 = equals.clone().map(|server| u64::from(server.weight)).sum();
            let drawn = self.below(sum + 1);
            let mut running = 0;
            let chosen = equals.clone().position(|server| {
                running += u64::from(server.weight);
                running >= drawn
            });
            order.push(left.remove(chosen.unwrap_or(0)));
        }
        order
    }

    /// A number below `bound`. SplitMix64: chance enough to share calls out, and nothing secret hangs on it.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use talkstack_media::sip::Transport;

    use super::*;

    #[test]
    fn the_lower_priority_comes_first_and_the_domain_s_preference_before_that() {
        let servers =
            [server(1, 0, 9, 1), server(0, 20, 0, 2), server(0, 10, 1, 3), server(1, 5, 0, 4), server(0, 20, 1, 5)];
        for seed in 0..100 {
            let order = drawn(&mut Draw::new(seed), &servers);
            assert_eq!((order[0], &order[3..]), (3, &[1, 4][..]), "{order:?}");
        }
    }

    #[test]
    fn servers_of_one_priority_share_the_calls_by_their_weights() {
        let servers = [server(0, 0, 60, 1), server(0, 0, 30, 2), server(0, 0, 10, 3), server(0, 0, 0, 4)];
        let mut draw = Draw::new(7);
        let mut firsts = [0; 5];
        for _ in 0..10_000 {
            firsts[usize::from(drawn(&mut draw, &servers)[0])] += 1;
        }
        let near = |count: i32, expected: i32| (count - expected).abs() < 250;
        assert!(near(firsts[1], 6000) && near(firsts[2], 3000) && near(firsts[3], 1000), "{firsts:?}");
        assert!((1..250).contains(&firsts[4]), "a weight of 0 is seldom, not never: {firsts:?}");
    }

    #[test]
    fn one_seed_makes_one_order_and_every_server_is_in_it_once() {
        let servers: Vec<_> = (0..16).map(|last| server(0, 0, u16::from(last) * 7, last)).collect();
        let mut order = drawn(&mut Draw::new(3), &servers);
        assert_eq!(order, drawn(&mut Draw::new(3), &servers));
        assert_ne!(order, drawn(&mut Draw::new(4), &servers));
        order.sort_unstable();
        assert_eq!(order, (0..16).collect::<Vec<_>>());
    }

    fn drawn(draw: &mut Draw, servers: &[Server]) -> Vec<u8> {
        let last = |server: &&Server| match server.addresses[0].ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        draw.order(servers).iter().map(last).collect()
    }

    fn server(rank: u16, priority: u16, weight: u16, last: u8) -> Server {
        let addresses = vec![([192, 0, 2, last], 5060).into()];
        Server { transport: Transport::Udp, rank, priority, weight, addresses }
    }
}
