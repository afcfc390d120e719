//! What phones say: the web app, and apps that speak the protocol of the privacyIDEA Authenticator. Everything is checked here.

use crate::Service;
use proto::verification::{
    BeginActivationReply, BeginActivationRequest, DecideReply, DecideRequest, FinishActivationReply,
    FinishActivationRequest, OpenPromptsReply, OpenPromptsRequest, PiReply, PiRequest, UpdateDeviceReply,
    UpdateDeviceRequest, phone_server::Phone,
};
use tonic::{Request, Response, Status, async_trait};

#[async_trait]
impl Phone for Service {
    async fn pi(&self, _: Request<PiRequest>) -> Result<Response<PiReply>, Status> {
        Err(Status::unimplemented("pi"))
    }

    async fn begin_activation(
        &self,
        _: Request<BeginActivationRequest>,
    ) -> Result<Response<BeginActivationReply>, Status> {
        Err(Status::unimplemented("begin_activation"))
    }

    async fn finish_activation(
        &self,
        _: Request<FinishActivationRequest>,
    ) -> Result<Response<FinishActivationReply>, Status> {
        Err(Status::unimplemented("finish_activation"))
    }

    async fn update_device(&self, _: Request<UpdateDeviceRequest>) -> Result<Response<UpdateDeviceReply>, Status> {
        Err(Status::unimplemented("update_device"))
    }

    async fn open_prompts(&self, _: Request<OpenPromptsRequest>) -> Result<Response<OpenPromptsReply>, Status> {
        Err(Status::unimplemented("open_prompts"))
    }

    async fn decide(&self, _: Request<DecideRequest>) -> Result<Response<DecideReply>, Status> {
        Err(Status::unimplemented("decide"))
    }
}
