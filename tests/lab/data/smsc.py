"""smsc.py PORT LOG: an SMS centre on loopback by the PyPI package smpp34. Each submit_sm is a line of JSON in LOG."""
import asyncio
import json
import sys

import smpp34

PORT, LOG = int(sys.argv[1]), sys.argv[2]
REFUSED = {"9999": smpp34.ESME_RTHROTTLED, "9998": smpp34.ESME_RINVDSTADR}


async def main():
    server = smpp34.Server(host="127.0.0.1", port=PORT, system_id="INDEPENDENT")
    await server.start()
    clients, count = {}, 0
    with open(LOG, "a", buffering=1) as log:
        while True:
            event = await server.next()
            if isinstance(event, smpp34.Esme):
                clients[event.session_id] = event
                continue
            if not isinstance(event, smpp34.SubmitSmEvent):
                continue
            count += 1
            name = f"ind-{count}"
            seen = {
                "id": name,
                "from": event.source_addr,
                "to": event.destination_addr,
                "octets": bytes(event.short_message).hex(),
                "esm_class": event.esm_class,
                "data_coding": event.data_coding,
                "registered_delivery": event.registered_delivery,
            }
            log.write(json.dumps(seen) + "\n")
            refusal = REFUSED.get(event.destination_addr[-4:])
            if refusal is not None:
                event.reject(refusal)
                continue
            event.accept(message_id=name)
            if event.registered_delivery & 1:
                state = "UNDELIV" if event.destination_addr.endswith("9997") else "DELIVRD"
                receipt = f"id:{name} sub:001 dlvrd:001 submit date:2611281300 done date:2611281301 stat:{state} err:000 text:"
                await clients[event.session_id].deliver_sm(
                    source_addr=event.destination_addr,
                    destination_addr=event.source_addr,
                    esm_class=0x04,
                    short_message=receipt.encode(),
                )


asyncio.run(main())
