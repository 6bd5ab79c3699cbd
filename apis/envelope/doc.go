// Package envelope is the signature of a document, which stands behind it as a
// second document of the same file. Nothing verifies or makes signatures yet:
// writers pass them through, and hosts refuse a file that has one.
//
// Whoever reads or writes files of documents may use it; it imports only apis.
package envelope
