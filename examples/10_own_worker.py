"""A worker of one's own: it translates, by a model, as one step of whatever task needs it.

With `atlas up` in another terminal, run `python examples/10_own_worker.py` (as many as you like),
and in a third one give it work beside that of others:

    atlas task run --goal "Announce the ferry" --plan examples/10_shared_plan.json

The plan's last step is for examples/worker.mjs, a worker in JavaScript. Without it the task waits.
"""

from atlas.worker import Subtask, WorkContext, Worker

worker = Worker()


@worker.handles("translate")
async def translate(subtask: Subtask, ctx: WorkContext) -> dict[str, object]:
    text = ctx.inputs["announcement"]
    await ctx.progress(read=len(str(text)))
    answer = await ctx.stream(f"{subtask.instruction}\n\n{text}", temperature=0.2)
    return {"text": answer.content, "by": answer.model}


worker.run()
