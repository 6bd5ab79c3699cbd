// Package s3test runs a real S3 server, versitygw, for tests. It is no part of
// the product.
//
// Only tests use it.
package s3test
