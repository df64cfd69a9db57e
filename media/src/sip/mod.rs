//! Session Initiation Protocol (RFC 3261): messages, transactions, dialogs and the endpoint that owns them.
