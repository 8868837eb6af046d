package approval

import "context"

type permitKey struct{}

// WithPermit returns a context under which permit is asked right before each call
// that changes something in the cloud: after all waits for rates and retries, with
// nothing in between. An error of permit keeps the call from being sent.
func WithPermit(ctx context.Context, permit func() error) context.Context {
	return context.WithValue(ctx, permitKey{}, permit)
}

// Permit asks what WithPermit left in ctx; nil if there is nothing.
func Permit(ctx context.Context) error {
	if permit, ok := ctx.Value(permitKey{}).(func() error); ok {
		return permit()
	}
	return nil
}
