// Package document reads and writes typed documents in a store: it is the one
// place that knows both keys and kinds.
//
// Operators' verbs and package host use it.
package document
