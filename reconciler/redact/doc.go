// Package redact leaves out of texts what must not leave the host: secrets
// that are known, and credentials in URLs.
//
// Package host and cmd use it.
package redact
