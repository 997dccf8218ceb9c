//! What the black-box tests share: nothing but the lab, so far.
