package cmdlet

// What boundary groups and client settings have to do with gateways.

func setClientSetting(r *run) error        { return errNoServer }
func getClientSettings(r *run) error       { return errNoServer }
func newBoundaryGroup(r *run) error        { return errNoServer }
func setBoundaryGroup(r *run) error        { return errNoServer }
func getBoundaryGroupSystems(r *run) error { return errNoServer }
func setDefaultBoundaryGroup(r *run) error { return errNoServer }
