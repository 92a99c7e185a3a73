"""A queue as IntelMQ's own AMQP pipeline uses it: `send PORT QUEUE` writes the lines of standard input,
`receive PORT QUEUE COUNT` takes and acknowledges as many messages, and prints them as lines."""
import logging
import sys

from intelmq.lib.pipeline import PipelineFactory

what, port, queue = sys.argv[1:4]
direction = "destination" if what == "send" else "source"
arguments = {f"{direction}_pipeline_broker": "amqp", f"{direction}_pipeline_host": "127.0.0.1",
             f"{direction}_pipeline_port": port}
queues = {"_default": [queue]} if what == "send" else queue
pipeline = PipelineFactory.create(logging.getLogger(), direction=direction, queues=queues, pipeline_args=arguments)
pipeline.connect()
if what == "send":
    for line in sys.stdin:
        pipeline.send(line.rstrip("\n"))
else:
    for _ in range(int(sys.argv[4])):
        print(pipeline.receive())
        pipeline.acknowledge()
pipeline.disconnect()
