//! A user as the command line shows one. Phone numbers are whole here: who may call this, may call the user.

use crate::output::time;
use proto::user_store::{DeviceSummary, FactorSummary, UserDetail};
use serde_json::{Value, json};

pub fn detail(detail: &UserDetail) -> Value {
    let user = detail.user.clone().unwrap_or_default();
    let factors: Vec<Value> = detail.factors.iter().map(factor).collect();
    let devices: Vec<Value> = detail.devices.iter().map(device).collect();
    let subject = detail.subject.clone().unwrap_or_default();
    let mut record = json!({
        "id": user.user_id,
        "username": user.username,
        "name": format!("{} {}", user.first_name, user.last_name).trim(),
        "mail": user.mail,
        "phone": detail.phone,
        "phone_extension": detail.phone_extension,
        "backup_phone": detail.backup_phone,
        "backup_extension": detail.backup_extension,
        "state": user.state,
        "state_text": detail.state_text,
        "directory": subject.directory,
        "directory_id": subject.object_id,
        "dn": detail.distinguished_name,
        "names": detail.names,
        "groups": detail.groups,
        "sync_item": detail.sync_item,
        "last_success": time(user.last_success_unix_ms),
        "factors": factors,
        "devices": devices,
        "default_method": detail.default_method,
        "allowed_methods": detail.allowed_methods,
        "language_call": detail.language_call,
        "language_text": detail.language_text,
        "language_app": detail.language_app,
        "language_code": detail.language_code,
        "pin": pin(detail),
        "recovery_left": detail.recovery_left,
        "questions": detail.questions,
        "block": detail.block.as_ref().map(|block| json!({
            "since": time(block.since_unix_ms),
            "until": time(block.until_unix_ms),
            "by": block.by,
            "text": block.text,
        })),
        "exempt_clients": detail.exempt_clients,
        "exempt_until": time(detail.exempt_until_unix_ms),
        "exempt_text": detail.exempt_text,
        "bypasses": detail.bypasses.iter().map(|bypass| json!({
            "id": bypass.bypass_id,
            "kind": bypass.kind,
            "client": bypass.client,
            "expires": time(bypass.expires_unix_ms),
            "uses_left": bypass.uses_left,
            "by": bypass.by,
            "text": bypass.text,
        })).collect::<Vec<_>>(),
        "remembered": detail.remembered,
    });
    // Beside it: the macro has an end.
    record["user_group"] = json!(user.user_group);
    record["sync_problem"] = json!(user.sync_problem);
    record["language_portal"] = json!(detail.language_portal);
    record["account_expires"] = time(detail.account_expires_unix_ms);
    record
}

fn pin(detail: &UserDetail) -> Value {
    let pin = detail.pin.unwrap_or_default();
    json!({
        "required": pin.required,
        "set": pin.set,
        "must_change": pin.must_change,
        "expired": pin.expired,
        "locked": pin.locked_until_unix_ms != 0,
        "locked_until": time(pin.locked_until_unix_ms),
    })
}

fn factor(factor: &FactorSummary) -> Value {
    let form = match factor.kind.as_str() {
        "hotp" => format!("{} {} digits, counted", factor.algorithm, factor.digits),
        _ => format!("{} {} digits {} s", factor.algorithm, factor.digits, factor.period_seconds),
    };
    json!({
        "id": factor.factor_id,
        "method": factor.method,
        "kind": factor.kind,
        "serial": factor.serial,
        "form": form,
        "pending": factor.pending,
        "created": time(factor.created_unix_ms),
        "last_used": time(factor.last_used_unix_ms),
        "failures": factor.consecutive_failures,
        "locked_until": time(factor.locked_until_unix_ms),
    })
}

fn device(device: &DeviceSummary) -> Value {
    json!({
        "id": device.device_id,
        "kind": device.kind,
        "name": device.name,
        "state": device.state,
        "created": time(device.created_unix_ms),
        "last_seen": time(device.last_seen_unix_ms),
        "passkey": device.has_passkey,
        "push": device.has_push,
    })
}
