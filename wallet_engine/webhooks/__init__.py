"""Events sent to whoever has asked for them by HTTP: endpoints, what is still to be sent, and the sending."""
