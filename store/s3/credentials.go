package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// renewable are credentials that are found anew after the store has refused
// them: files are rotated and sessions revoked while an agent runs, and the
// SDK keeps what it has found until that says itself that it is expired.
type renewable struct {
	load func(ctx context.Context) (aws.CredentialsProvider, error)

	mu      sync.Mutex
	present aws.CredentialsProvider
	refused bool
}

// Retrieve returns the credentials, found anew if the last ones were refused.
func (r *renewable) Retrieve(ctx context.Context) (aws.Credentials, error) {
	present, err := r.provider(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	c, err := present.Retrieve(ctx)
	if err != nil {
		return c, fmt.Errorf("find AWS credentials in the environment, a profile, or a role of the machine: %w", err)
	}
	return c, nil
}

func (r *renewable) provider(ctx context.Context) (aws.CredentialsProvider, error) { //nolint:ireturn // the SDK's
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused {
		fresh, err := r.load(ctx)
		if err != nil {
			return nil, err
		}
		r.present, r.refused = fresh, false
	}
	return r.present, nil
}

// refuse makes the next request find credentials anew if the store's answer
// says that these are not valid, and reports whether it does.
func (r *renewable) refuse(err error) bool {
	if !unauthorized(err) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = true
	return true
}

// renewed asks, and once more with new credentials if the first were not valid.
func renewed[T any](s *Store, ask func() (T, error)) (T, error) {
	out, err := ask()
	if err != nil && s.credentials.refuse(err) {
		return ask()
	}
	return out, err
}

// unauthorized reports whether an answer says that the credentials are not
// valid. That they are and do not allow it is another matter.
func unauthorized(err error) bool {
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	switch code(err) {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed":
		return true
	default:
		return ok && response.HTTPStatusCode() == http.StatusUnauthorized
	}
}
