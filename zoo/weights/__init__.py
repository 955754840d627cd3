"""Files of weights: choose the file for a model, fetch it to this machine once, verify, parse and load it.

Owns     places, digests, the cache, and the chain verify -> parse -> load.
In       a card or a path; installed packages, URLs, local files; safetensors, `torch.save` and Caffe files.
Out      a local file with the expected digest; a network with exactly these weights.
Never    run code that a file holds, load a part of a file, or return random weights for trained ones.
"""
