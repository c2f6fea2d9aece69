//! The keys of `zoo.cfg`: which there are, what they mean here, and which are refused.
