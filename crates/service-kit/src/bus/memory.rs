//! The bus inside one process.
use super::*;

/// A bus for one process. Clones are the same bus.
#[derive(Clone, Default)]
pub struct InProcess {}

impl InProcess {
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Bus for InProcess {
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
