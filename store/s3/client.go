package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/npcnix/npcnix/store"
)

// Limits of a request. Its body is watched apart, see stallTimeout.
const (
	attempts       = 3
	maxBackoff     = 5 * time.Second
	connectTimeout = 10 * time.Second
	answerTimeout  = 30 * time.Second
	maxRedirects   = 3
)

// errRedirected is returned instead of following a redirect: what signs a
// request is for one host alone.
var errRedirected = errors.New("the store redirects to another host, which is not followed with credentials")

// load reads the SDK's own configuration: environment, profiles, roles.
func load(ctx context.Context, region string) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(httpClient()),
		config.WithRetryer(retryer),
		config.WithLogger(logging.Nop{}), // what matters comes back as an error
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load AWS configuration: %w", err)
	}
	return cfg, nil
}

// newClient returns the client of a location.
func newClient(cfg aws.Config, loc store.Location, credentials aws.CredentialsProvider, client s3.HTTPClient) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.Credentials = credentials
		o.HTTPClient = client
		o.UsePathStyle = loc.PathStyle
		if loc.Endpoint != "" {
			o.BaseEndpoint = aws.String(loc.Endpoint)
		}
		if o.BaseEndpoint != nil { // look-alikes refuse checksums they do not know
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
		if o.Region == "" {
			o.Region = "us-east-1" // look-alikes ignore it; Amazon's answer names the right one
		}
	})
}

// httpClient bounds what can hang. It is the SDK's own buildable client because
// LoadDefaultConfig refuses another together with AWS_CA_BUNDLE.
func httpClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout }).
		WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = answerTimeout })
}

// stayingClient is the configured client that follows redirects within a host
// alone. The SDK's own would take the session token along.
func stayingClient(c aws.HTTPClient) aws.HTTPClient { //nolint:ireturn // the SDK's
	buildable, ok := c.(*awshttp.BuildableClient)
	if !ok {
		return c
	}
	frozen, ok := buildable.Freeze().(*http.Client)
	if !ok {
		return c
	}
	follow := frozen.CheckRedirect
	staying := *frozen
	staying.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects || r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
			return errRedirected
		}
		return follow(r, via)
	}
	return &staying
}

// retryer is the one layer that retries transport. Its token bucket is off: it
// would starve a process that lives through a long outage.
func retryer() aws.Retryer { //nolint:ireturn // what WithRetryer takes
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = maxBackoff
		o.RateLimiter = ratelimit.None
		// Look-alikes say 429 with codes of their own; a redirect is an answer.
		statuses := retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusTooManyRequests: {}}}
		answers := retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if errors.Is(err, errRedirected) {
				return aws.FalseTernary
			}
			return aws.UnknownTernary
		})
		o.Retryables = append([]retry.IsErrorRetryable{answers, statuses}, o.Retryables...)
	})
}
