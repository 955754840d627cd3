"""Encoded images -> arrays of pixels, in a child process.

Owns     decoding, resizing and cropping, either exactly as published numbers were measured or fast; limits of time and
         memory.
In       encoded bytes, and the views (geometry, decoder) that models need.
Out      uint8 arrays (size, size, 3), or the reason why there is none.
Never    let an image kill, hang or flood the calling process; normalise pixels (the model's device does).
"""
