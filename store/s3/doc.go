// Package s3 is a store in an S3 bucket, Amazon's or a look-alike's. Regions,
// endpoints and credentials come from the SDK's own chain, except for what the
// store URL names.
//
// Only cmd names it; whoever needs a store asks for a store.Store. Nothing else may
// import the AWS SDK.
package s3
