//! DiskTxMap: txid -> inpoints.
