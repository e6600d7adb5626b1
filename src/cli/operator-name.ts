import { userInfo } from 'node:os';

/** For the audit trail. */
export const operatorName = (): string => `command line (${userInfo().username})`;
