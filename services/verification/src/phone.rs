//! What phones say: the web app, and apps that speak the protocol of the privacyIDEA Authenticator. Everything is checked here.
//!
//! Who speaks is a device that the store knows, by a signature of its key. What a person decided is put into the store once
//! (V-21), and then told on the bus, for whoever waits.

mod pi;
mod web;

use crate::Service;
use crate::budget::Budget;
use proto::verification::{
    BeginActivationReply, BeginActivationRequest, DecideReply, DecideRequest, FinishActivationReply,
    FinishActivationRequest, OpenPromptsReply, OpenPromptsRequest, PiReply, PiRequest, UpdateDeviceReply,
    UpdateDeviceRequest, phone_server::Phone,
};
use tonic::{Request, Response, Status, async_trait};

#[async_trait]
impl Phone for Service {
    async fn pi(&self, request: Request<PiRequest>) -> Result<Response<PiReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(pi::handle(self, request.into_inner(), budget).await?))
    }

    async fn begin_activation(
        &self,
        request: Request<BeginActivationRequest>,
    ) -> Result<Response<BeginActivationReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::begin_activation(self, request.into_inner(), budget).await?))
    }

    async fn finish_activation(
        &self,
        request: Request<FinishActivationRequest>,
    ) -> Result<Response<FinishActivationReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::finish_activation(self, request.into_inner(), budget).await?))
    }

    async fn update_device(
        &self,
        request: Request<UpdateDeviceRequest>,
    ) -> Result<Response<UpdateDeviceReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::update_device(self, request.into_inner(), budget).await?))
    }

    async fn open_prompts(&self, request: Request<OpenPromptsRequest>) -> Result<Response<OpenPromptsReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::open_prompts(self, request.into_inner(), budget).await?))
    }

    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<DecideReply>, Status> {
        let budget = Budget::of(&request);
        Ok(Response::new(web::decide(self, request.into_inner(), budget).await?))
    }
}
