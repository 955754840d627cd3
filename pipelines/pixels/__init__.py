"""Encoded images -> arrays of pixels, in a child process.

Owns     decoding, resizing and cropping, exactly as published numbers were measured or fast; limits of time and memory.
In       encoded bytes and the views (geometry, decoder) that models need.
Out      uint8 arrays (height, width, 3), or the reason why there is none.
Never    let an image end, hang or flood the process that asks; normalise (the model's device does).
"""
