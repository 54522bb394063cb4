"""The mathematics of a decoder, once: pure functions on JAX arrays. JAX only, no framework, no parameters, no state.

Both sides call these, so a slip here moves both alike; `tests/impl/math` holds every function against a float64 NumPy
oracle of its own.

Shape letters, here and throughout `impl`:

    B  batch, the rows             E  embedding width
    T  query length                F  width inside the MLP
    S  key length                  V  vocabulary size
    H  query heads                 N  microbatches
    K  key heads, H a multiple     G  query heads per key head, H / K
    D  width of one head

A position or a token is an int32. A segment id is an int32, 0 for padding. In a mask True means "may attend".
"""
