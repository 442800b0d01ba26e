package azure

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2"
	"github.com/opencmg/opencmg"
)

// KeyLife is the age at which a storage account's key is replaced
// (cmg-behaviour M5).
const KeyLife = 180 * 24 * time.Hour

// A StorageKey is one of a storage account's two keys.
type StorageKey struct {
	Name    string // key1 or key2
	Value   Secret
	Created time.Time
}

// storageKeys returns the account's keys, the one to sign with first. That is
// the younger one, and key1 when both are of one age: so no state is needed,
// and what the other key signed has run out when its turn comes.
func (c *Client) storageKeys(ctx context.Context, d *opencmg.Deployment) ([]StorageKey, error) {
	doing := "read the keys of storage account " + d.Name
	accounts, err := typed(c, d.SubscriptionID, versionStorage, armstorage.NewAccountsClient)
	if err != nil {
		return nil, err
	}
	r, err := accounts.ListKeys(ctx, d.ResourceGroup, d.Name, nil)
	if err != nil {
		return nil, c.fail(ctx, doing, err)
	}
	return sortedKeys(r.Keys, doing)
}

func sortedKeys(from []*armstorage.AccountKey, doing string) ([]StorageKey, error) {
	var keys []StorageKey
	for _, k := range from {
		keys = append(keys, StorageKey{Name: deref(k.KeyName), Value: Secret(deref(k.Value)), Created: deref(k.CreationTime)})
	}
	if len(keys) != 2 {
		return nil, opencmg.Errorf(opencmg.Unavailable, "%s: there are %d keys, not two", doing, len(keys))
	}
	slices.SortFunc(keys, func(a, b StorageKey) int {
		if n := b.Created.Compare(a.Created); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
	return keys, nil
}

// SigningKey is the key with which new signatures are made. Whoever signs for
// the storage account must use it, or [Client.RotateStorageKeys] would cut off
// what another key signed.
func (c *Client) SigningKey(ctx context.Context, d *opencmg.Deployment) (StorageKey, error) {
	keys, err := c.storageKeys(ctx, d)
	if err != nil {
		return StorageKey{}, err
	}
	return keys[0], nil
}

// A Rotation is what [Client.RotateStorageKeys] did and when to call again.
type Rotation struct {
	// Replaced is the key that was made anew; empty: none was due. When one
	// was, addresses must be signed anew (see [Client.UploadService]); the old
	// ones still work until they run out.
	Replaced string
	// Next is when a key becomes due.
	Next time.Time
}

// RotateStorageKeys replaces at most one key that is older than [KeyLife], and
// only the one that signed nothing for longest, which is how long the longest
// signature lasts (at least [ServiceLinkLife]). Both keys are so replaced one
// after the other, in two calls at least longest apart, and no download
// breaks. Calling it every day is right.
func (c *Client) RotateStorageKeys(ctx context.Context, d *opencmg.Deployment, longest time.Duration) (Rotation, error) {
	longest = max(longest, ServiceLinkLife)
	keys, err := c.storageKeys(ctx, d)
	if err != nil {
		return Rotation{}, err
	}
	signing, spare := keys[0], keys[1]
	now := c.now()
	// The younger key signs since it was made; before, the other one did.
	due := latest(spare.Created.Add(KeyLife), signing.Created.Add(longest))
	if now.Before(due) {
		return Rotation{Next: due}, nil
	}
	accounts, err := typed(c, d.SubscriptionID, versionStorage, armstorage.NewAccountsClient)
	if err != nil {
		return Rotation{}, err
	}
	doing := "replace " + spare.Name + " of storage account " + d.Name
	r, err := accounts.RegenerateKey(once(ctx), d.ResourceGroup, d.Name, armstorage.AccountRegenerateKeyParameters{KeyName: &spare.Name}, nil)
	if err != nil {
		return Rotation{}, c.fail(ctx, doing, err, string(spare.Value), string(signing.Value))
	}
	if keys, err = sortedKeys(r.Keys, doing); err != nil {
		return Rotation{}, err
	}
	c.log.InfoContext(ctx, "storage key replaced", "gateway", d.Name, "key", spare.Name)
	return Rotation{Replaced: spare.Name, Next: latest(keys[1].Created.Add(KeyLife), keys[0].Created.Add(longest))}, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
