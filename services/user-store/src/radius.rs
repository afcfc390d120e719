//! What RADIUS gateways tell the store, and what an administrator reads of it.
//!
//! ```text
//! reports      what each gateway sees of its clients            --> warnings   what of that an administrator should change (R-37)
//! accounting   of clients whose target takes none (FR-19)
//! rotation     the shared secret before the present one (R-71)
//! ```

pub mod accounting;
pub mod reports;
pub mod rotation;
pub mod warnings;

use crate::Store;
use proto::user_store::{
    RecordAccountingReply, RecordAccountingRequest, ReportClientsReply, ReportClientsRequest, radius_server::Radius,
};
use tonic::{Request, Response, Status};

pub struct RadiusService(pub Store);

#[tonic::async_trait]
impl Radius for RadiusService {
    async fn report_clients(
        &self,
        request: Request<ReportClientsRequest>,
    ) -> Result<Response<ReportClientsReply>, Status> {
        reports::report(&self.0, request.into_inner()).await?;
        Ok(Response::new(ReportClientsReply {}))
    }

    async fn record_accounting(
        &self,
        request: Request<RecordAccountingRequest>,
    ) -> Result<Response<RecordAccountingReply>, Status> {
        accounting::record(&self.0, request.into_inner()).await?;
        Ok(Response::new(RecordAccountingReply {}))
    }
}
