"""Run llama.cpp on commands from standard input; runs in an environment of its own.

```
python llama_worker.py MODEL.gguf FLASH(0|1)
{"prefill": [ids]}  ->  {"wall": s, "cpu": s}       a new sequence, up to its first new token
{"decode": n}       ->  {"wall": s, "cpu": s}       n tokens more, greedily
```
"""

from __future__ import annotations

import json
import sys
import time

import llama_cpp
import numpy as np


def main() -> None:
    flash = sys.argv[2] == "1"
    model = llama_cpp.Llama(
        sys.argv[1], n_ctx=1024, n_threads=1, n_threads_batch=1, n_batch=512, n_ubatch=512,
        flash_attn=flash, verbose=False,
    )  # fmt: skip
    size = model.n_vocab()

    def best() -> int:
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(size,))))

    token = 0
    for line in sys.stdin:
        asked = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        if "prefill" in asked:
            model.reset()
            model.eval(asked["prefill"])
            token = best()
        else:
            for _ in range(asked["decode"]):
                model.eval([token])
                token = best()
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        sys.stdout.write(json.dumps(spent) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
