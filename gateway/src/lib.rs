//! Talkstack Edge: the daemon that answers phone calls and bridges them to voice agents.
