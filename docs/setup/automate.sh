#!/bin/sh
# The whole life of a cloud management gateway by noun and verb: import both app
# registrations, connect the site to the tenant, create the gateway with two
# instances, add the connection point, check, stop, start, scale, remove.
# automate-cmdlets.sh beside it is the same by the documented cmdlets, and says
# which variables to set first. What is called by noun and verb waits for its end.
set -eu

# Part 2: Microsoft Entra ID.
opencmg application import-server --tenant-name "$TENANT_NAME" --tenant-id "$TENANT_ID" \
	--app-name "$SERVER_APP_NAME" --client-id "$SERVER_APP_ID" --app-id-uri "$SERVER_APP_URI" \
	--secret-key-file "$SERVER_APP_SECRET_FILE" --secret-key-expiry "$SERVER_APP_SECRET_EXPIRY" \
	--azure-environment-option "$ENVIRONMENT"
opencmg application import-client --tenant-id "$TENANT_ID" --app-name "$CLIENT_APP_NAME" --client-id "$CLIENT_APP_ID"
opencmg azure-service create --name "$TENANT_NAME" --description "Cloud management" \
	--server-app "$SERVER_APP_NAME" --client-app "$CLIENT_APP_NAME"

# Parts 1, 3 and 4: certificate, trusted CAs and the gateway.
opencmg gateway create --service-cert-path "$SERVICE_CERT" --service-cert-password-file "$SERVICE_CERT_PASSWORD_FILE" \
	--subscription-id "$SUBSCRIPTION_ID" --region "$REGION" --vmss-vm-size Lab --vm-instance-count 2 \
	--ca-root-cert "$ROOT_CA=RootCA,$INTERMEDIATE_CA=IntermediateCA"

# The connection point. Its host joins once with a token that the site gives.
opencmg connection-point add --cloud-management-gateway-name "$SERVICE_NAME" \
	--site-system-server-name cp01 --join-token-file cp01.token
opencmg connection-point join --site-token-file cp01.token --name cp01 --dir cp01 ${CONNECTION_POINT_FLAGS-}
opencmg connection-point serve --config cp01/connection-point.yaml &
trap 'kill $!' EXIT
opencmg management-point set --site-system-server-name "$MANAGEMENT_POINT" --enable-cloud-gateway true

# Check.
opencmg gateway list --output table
opencmg connection-point list --output table
opencmg client-properties "$SERVICE_NAME"

# Stop, start, scale.
opencmg gateway stop --name "$SERVICE_NAME"
opencmg gateway start --name "$SERVICE_NAME"
opencmg gateway set --name "$SERVICE_NAME" --vm-instance-count 3

# Remove, in the order in which nothing is left behind.
opencmg connection-point remove --site-system-server-name cp01 --force
opencmg gateway remove --name "$SERVICE_NAME" --force
opencmg azure-service remove --name "$TENANT_NAME" --force
