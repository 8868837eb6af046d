package approval

import (
	"slices"
	"strconv"
	"time"
)

// MaxReviews bounds the reviews that are kept of one request.
const MaxReviews = 64

// ReviewRule is who may decide what a policy holds, and how many it takes.
type ReviewRule struct {
	Policy        string
	By            []string // names of people and groups
	Approvals     int      // different people, at least 1
	Within        Period   // from the hold
	TrustConsoles bool     // whether people who sign in at one console count one by one
	MayReject     bool     // whether the mode of the policy lets a reject be carried out
}

// Period is a duration that is text in JSON, such as 72h0m0s.
type Period time.Duration

func (p Period) String() string { return time.Duration(p).String() }

// MarshalText writes p as text.
func (p Period) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Period) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*p = Period(d)
	return err
}

// ReviewedFacts are the facts that a reviewer saw and signed: of a connection its
// account, its endpoint and the cloud's number of it; of a creation the digest of
// its parameters.
type ReviewedFacts struct {
	DomainID   string
	EndpointID string
	MarkerID   int64
	Parameters string // see Creation.Digest
}

// FactsToReview returns what a reviewer of r, as the cloud shows it in f, must have seen.
func FactsToReview(r *Request, f *Facts) ReviewedFacts {
	if r.Creates() {
		return ReviewedFacts{Parameters: r.Creation.Digest()}
	}
	return ReviewedFacts{DomainID: CanonicalID(f.DomainID), EndpointID: UUID(r.EndpointID), MarkerID: f.MarkerID}
}

// Known reports whether f says enough to distinguish what was reviewed.
func (f ReviewedFacts) Known() bool {
	return f.Parameters != "" || f.DomainID != "" && f.EndpointID != "" && f.MarkerID != 0
}

// Review is what one person said of a held request. Its signature was verified
// before it was kept.
type Review struct {
	Reviewer string // name in reviewers.yaml
	Approve  bool   // else: reject
	Reason   string
	At       time.Time     // when it was signed
	Console  string        // name of the console that vouched for the person; empty: signed with their own key
	SignIn   string        // how the console knew the person; empty without a console
	Facts    ReviewedFacts // what the person saw
	Nonce    string        // of the submission, so that it counts once
	Sequence uint64        // of the message in its stream: a copy has another
}

// Reviews is what people said of a held request, and since when it is held.
type Reviews struct {
	HeldAt time.Time
	Said   []Review // oldest first
}

// ReviewRecord is what the ledger holds of the reviews of one subject that is held.
type ReviewRecord struct {
	Request  Request // the one that was held
	Facts    Facts   // that were judged then
	Reviews  Reviews
	Closed   string // why nothing more can be said; empty: it is open
	Round    int    // how often it was decided by its reviews, and is held all the same
	Revision uint64
}

// The values of ReviewRecord.Closed.
const (
	ReviewDecided  = "decided"  // the reviews decided it
	ReviewRejected = "rejected" // a reject stands, and the policy's mode keeps it from being carried out
)

// ToReview returns the facts that a review of r must be about.
func (r *ReviewRecord) ToReview() ReviewedFacts { return FactsToReview(&r.Request, &r.Facts) }

// Has reports whether the review with this nonce was counted.
func (r *ReviewRecord) Has(nonce string) bool { return r.Reviews.ByNonce(nonce) != nil }

// ByNonce returns the review with this nonce; nil if there is none.
func (r *Reviews) ByNonce(nonce string) *Review {
	i := slices.IndexFunc(r.Said, func(old Review) bool { return old.Nonce == nonce })
	if i < 0 {
		return nil
	}
	return &r.Said[i]
}

// Add returns r with a review more.
func (r *ReviewRecord) Add(review Review) ReviewRecord {
	next := *r
	next.Reviews.Said = append(slices.Clip(next.Reviews.Said), review)
	return next
}

// ReviewedRequest is the request by which a subject is decided again after reviews.
// The same reviews give the same request, on whichever replica they are counted.
func ReviewedRequest(record *ReviewRecord) Request {
	r := record.Request
	said := record.Reviews.Said
	r.EventID = r.ID + "/review/" + strconv.Itoa(len(said))
	if record.Round > 0 {
		r.EventID += "/" + strconv.Itoa(record.Round)
	}
	r.Source, r.ID = SweepSource, RequestID(SweepSource, r.EventID)
	if len(said) > 0 {
		r.Time = said[len(said)-1].At
	}
	return r
}
