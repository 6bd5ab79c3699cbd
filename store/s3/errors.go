package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/npcnix/npcnix/store"
)

// fail turns an SDK error into the store's: but for the codes that say more, by
// HTTP status first, by code second. Look-alikes agree on the status; 304
// arrives as an error too.
func (s *Store) fail(ctx context.Context, op, key string, err error) error {
	class := classify(err)
	if errors.Is(class, store.ErrNotFound) && s.bucketMissing(ctx, op, err) {
		class = fmt.Errorf("%w: %s", store.ErrBucketNotFound, s.bucket)
	}
	if class == nil {
		return fmt.Errorf("%s %s: %w%s", op, key, err, regionHint(err))
	}
	if expected(class) {
		return fmt.Errorf("%s %s: %w", op, key, class)
	}
	return fmt.Errorf("%s %s: %w: %w", op, key, class, err)
}

// regionHint says where the bucket is if the store says that it is elsewhere.
func regionHint(err error) string {
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || response.Response == nil {
		return ""
	}
	if status := response.HTTPStatusCode(); status != http.StatusMovedPermanently && status != http.StatusTemporaryRedirect && status != http.StatusBadRequest {
		return ""
	}
	region := response.Response.Header.Get("X-Amz-Bucket-Region")
	if region == "" {
		return ""
	}
	return fmt.Sprintf("; the bucket is in another region: name it in the store URL, ?region=%.40q", region)
}

// expected reports whether the class says everything that there is to say.
func expected(class error) bool {
	return errors.Is(class, store.ErrNotFound) || errors.Is(class, store.ErrNotModified) ||
		errors.Is(class, store.ErrConflict) || errors.Is(class, store.ErrBucketNotFound)
}

func classify(err error) error {
	switch code(err) { // versitygw's answers, with status 409, where a key would be a directory of another
	case "ObjectParentIsFile", "ExistingObjectIsDirectory":
		return store.ErrInvalidKey
	}
	if unauthorized(err) { // with status 400, 401 or 403, which says less
		return store.ErrUnauthorized
	}
	if class := byStatus(err); class != nil {
		return class
	}
	switch code(err) {
	case "NoSuchKey", "NotFound":
		return store.ErrNotFound
	case "PreconditionFailed", "ConditionalRequestConflict":
		return store.ErrConflict
	case "AccessDenied":
		return store.ErrAccessDenied
	default:
		return nil
	}
}

func byStatus(err error) error {
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok {
		return nil
	}
	switch response.HTTPStatusCode() {
	case http.StatusNotModified:
		return store.ErrNotModified
	case http.StatusNotFound:
		return store.ErrNotFound
	case http.StatusPreconditionFailed, http.StatusConflict:
		return store.ErrConflict
	case http.StatusForbidden:
		return store.ErrAccessDenied
	case http.StatusRequestedRangeNotSatisfiable:
		return store.ErrInvalidRange
	default:
		return nil
	}
}

func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// bucketMissing tells a missing bucket from a missing key. HEAD has no body to
// tell them apart, so the bucket is asked.
func (s *Store) bucketMissing(ctx context.Context, op string, err error) bool {
	if op != "stat" {
		return code(err) == "NoSuchBucket"
	}
	_, err = s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	return err != nil && errors.Is(classify(err), store.ErrNotFound)
}
