// Package store is the object store that stands between operators and hosts:
// the interface that every driver fulfils, the errors they return, the layout
// of the keys, and the reading helpers that all callers share.
//
// It moves bytes and knows no kinds of documents; package document does. The
// drivers are s3, file and mem; storetest is the contract that all of them pass.
//
// Whoever needs a store is handed one; only cmd names drivers.
package store
