//! The portal's own app on the phone (experience 10.2).

use crate::Service;
use crate::budget::Budget;
use proto::verification::{
    BeginActivationReply, BeginActivationRequest, DecideReply, DecideRequest, FinishActivationReply,
    FinishActivationRequest, OpenPromptsReply, OpenPromptsRequest, UpdateDeviceReply, UpdateDeviceRequest,
};
use tonic::Status;

pub async fn begin_activation(
    _service: &Service,
    _request: BeginActivationRequest,
    _budget: Budget,
) -> Result<BeginActivationReply, Status> {
    Err(Status::unimplemented("begin_activation"))
}

pub async fn finish_activation(
    _service: &Service,
    _request: FinishActivationRequest,
    _budget: Budget,
) -> Result<FinishActivationReply, Status> {
    Err(Status::unimplemented("finish_activation"))
}

pub async fn update_device(
    _service: &Service,
    _request: UpdateDeviceRequest,
    _budget: Budget,
) -> Result<UpdateDeviceReply, Status> {
    Err(Status::unimplemented("update_device"))
}

pub async fn open_prompts(
    _service: &Service,
    _request: OpenPromptsRequest,
    _budget: Budget,
) -> Result<OpenPromptsReply, Status> {
    Err(Status::unimplemented("open_prompts"))
}

pub async fn decide(_service: &Service, _request: DecideRequest, _budget: Budget) -> Result<DecideReply, Status> {
    Err(Status::unimplemented("decide"))
}
