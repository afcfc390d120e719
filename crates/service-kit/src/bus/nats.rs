//! The bus on NATS.
use super::*;

/// A bus on NATS servers.
pub struct Nats {}

impl Nats {
    pub fn connect(_servers: &[String], _section: &BusSection, _process: &Process) -> Result<Self, BusSetupError> {
        todo!()
    }
}

#[async_trait]
impl Bus for Nats {
    async fn publish(&self, _subject: &str, _payload: Bytes) -> Result<(), BusError> {
        todo!()
    }
    async fn subscribe(&self, _pattern: &str) -> Result<Subscription, BusError> {
        todo!()
    }
    fn stream(&self, _options: StreamOptions) -> Arc<dyn Stream> {
        todo!()
    }
    fn map(&self, _name: &str, _options: MapOptions) -> Arc<dyn Map> {
        todo!()
    }
}
