//! The machine's end of the connection to its services.

use super::message::{Inbound, Order};

/// The services' end of the connection.
#[derive(Default)]
pub(super) struct Link {
    pub(super) inbound: Inbound,
    pub(super) outbound: Vec<u8>,
    pub(super) number: u32,
    pub(super) is_over: bool,
}

impl Link {
    /// Sends an order that something will come of, and returns its number.
    pub(super) fn request(&mut self, order: Order<'_>) -> u32 {
        self.number = self.number.wrapping_add(1);
        order.write(self.number, &mut self.outbound);
        self.number
    }

    pub(super) fn cancel(&mut self, number: Option<u32>) {
        if let Some(number) = number {
            Order::Cancel.write(number, &mut self.outbound);
        }
    }
}
