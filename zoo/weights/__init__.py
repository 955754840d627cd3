"""Files of weights: which one a model wants, getting it to this machine once, loading it whole.

Owns     places, digests, the cache, and the chain verify -> parse -> load.
In       a card or a path; installed packages, URLs, local files, safetensors, `torch.save` and Caffe files.
Out      a local file whose digest is right; a network that holds exactly these weights.
Never    run code that a file holds, load a part of it, or return random weights for trained ones.
"""
